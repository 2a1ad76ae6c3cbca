"""OpenAlgo's endpoints, so that its clients trade here by changing host and API key (docs.openalgo.in)."""
