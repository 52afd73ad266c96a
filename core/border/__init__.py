"""Where Python objects cross into the core and out of it, once per call: arguments in, results out."""
