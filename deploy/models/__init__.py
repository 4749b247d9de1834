"""The bundled models, one package each: how they are made, their weights, and their settings."""
