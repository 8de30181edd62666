"""One module per localizer, all with the same verbs."""
