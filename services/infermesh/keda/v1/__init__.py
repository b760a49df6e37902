"""Generated from `protos/infermesh/keda/v1` by `make proto`. DO NOT EDIT."""
