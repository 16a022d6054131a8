"""What users and agents say: resources, CRDs and the wire contract of the agents."""
