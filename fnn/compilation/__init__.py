"""One program for all runs that compute the same."""
