"""The roles the services need filled from outside. Adapters in `integrations/` and `workers/` fill them."""
