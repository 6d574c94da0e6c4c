"""Many runs: sweep, cross-validate, ensemble."""
