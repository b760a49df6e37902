"""Generated from `protos/infermesh/health/v1` by `make proto`. DO NOT EDIT."""
