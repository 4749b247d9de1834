"""Everything around the function: the model, its export, the stand-in for the server and the commands."""
