# make demo             the main job end to end, on a rendered walk through a corridor
# make demo VIDEO=a.mp4 the same on your own video
# make serve            the demo's place, on a phone: scan the QR code
# make test             every check that CI runs
# make package          sdist and wheel, tried in clean environments
#
# Both make .venv first, from any Python 3.10 or later: PYTHON=python3.12 chooses one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# mkdocs-material advertises its successor on every run otherwise.
export NO_MKDOCS_2_WARNING := 1
RUN_STAMP := $(VENV)/installed
DEV_STAMP := $(VENV)/installed-dev

.DELETE_ON_ERROR:
.PHONY: help install demo serve test format docs package clean

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"relocalize needs Python 3.10 or later, $(PYTHON) is " + sys.version.split()[0] + \
		"; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml synthetic/pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[train,xfeat,serve]" -e synthetic
	@touch $@

$(DEV_STAMP): pyproject.toml synthetic/pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[dev,docs,train,export,view,serve,xfeat]" -e synthetic
	@touch $(RUN_STAMP) $@

install: $(DEV_STAMP)

# Commands resume from what is on disk, so `make demo` resumes a demo that was stopped.
demo: $(RUN_STAMP)
ifdef VIDEO
	@stem="$$(basename "$$VIDEO")"; set -x; \
	$(BIN)/relocalize build "$$VIDEO" "demo/$${stem%.*}"
else
	@set -ex; \
	test -f demo/corridor/truth.json || $(BIN)/relocalize-synthesize demo/corridor; \
	$(BIN)/relocalize build demo/corridor/walk.mp4 demo/place \
		--minutes 2 --truth demo/corridor/walk_poses.txt; \
	$(BIN)/relocalize localize demo/place demo/corridor/visitor
endif

serve: $(RUN_STAMP)
	@test -f demo/place/place.json || $(MAKE) demo
	$(BIN)/relocalize serve demo/place --https

test: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder
	$(BIN)/mkdocs build --strict --quiet

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP)
	$(BIN)/mkdocs serve

package:
	./.ci/try_package $(PYTHON)

clean:
	rm -rf $(VENV) site build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
