"""The bundled models, one package each: training, weights, settings, export. May import deploy.export and below."""
