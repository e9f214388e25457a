"""Where untrusted programs run. One protocol, three providers: bwrap, docker, none."""
