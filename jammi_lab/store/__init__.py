"""The store: the one funnel to `ready`, manifests, recovery, verification and the one way out."""
