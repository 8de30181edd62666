"""What the files of experiments are called."""

EXPERIMENTS = "experiments"  # in the Place, a folder per sweep
RESULTS, FIGURE, PAGE = "results.json", "curves.png", "index.html"
# In the folder of a run, beside its log.
SETTINGS, RESULT, REGRESSOR = "settings.json", "result.json", "localizer"
