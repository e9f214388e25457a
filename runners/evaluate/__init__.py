"""Turns stored generations into verdicts and pass@1, running untrusted programs in a sandbox."""
