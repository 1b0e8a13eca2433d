"""ConfigSnapshot -> MeshContext (the model) -> scopes. No Envoy, no I/O, no clock.

The model speaks of services, routes and policies; what an Envoy resource looks like is istiod.envoy's. After this
package nobody reads a CRD again.
"""
