"""The commands, composed of stages and spread by Ray. The only place that knows Ray."""
