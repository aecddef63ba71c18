"""How good the codes are: labelled data sets, features side by side, probes, verification, figures, the report."""
