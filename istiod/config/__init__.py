"""The objects as they are now: the one mutable store, its frozen snapshots, and the values siblings share."""
