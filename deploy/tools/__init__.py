"""What the commands share: programs that they start, signals, tables. Imports nothing else of the project."""
