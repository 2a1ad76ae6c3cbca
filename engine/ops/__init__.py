"""Files for whoever operates the engine, not for the engine: `engine ops export DIR` writes them out."""
