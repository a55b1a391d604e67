"""Filtering files shard by shard: records kept whole, runs that resume, one machine or Beam."""
