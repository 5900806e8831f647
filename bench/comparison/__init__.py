"""What `bench/compare` is made of: the machine, the peers, the works that they are given, and the report."""
