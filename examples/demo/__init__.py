"""`make demo`: BookInfo on this machine, its routing changed live, each claim measured and checked."""
