"""The resources of `modelswap.dev/v1alpha1`: the single source of the CRDs, the reference and the operator's types."""
