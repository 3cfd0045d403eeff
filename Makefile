# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

# What a person types. Everything lives in .venv and build/; nothing else on the machine changes, but for two Debian packages
# that root gets where they are missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FUZZ := 1000000
PROOFS :=

debian = { package=$(1); \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "make setup installs $$package"; export DEBIAN_FRONTEND=noninteractive; \
		apt-get -qq update && apt-get -qq install --no-install-recommends $$package >/dev/null; \
	else echo "make setup needs $$package: apt install $$package" >&2; exit 1; fi; }

MINUTES := 60

.PHONY: help setup demo check test prove bench fuzz synth registers docs figures lint clean

help:
	@echo "make setup      install everything into $(VENV): $(BIN)/spigate"
	@echo "make demo       one CFE, three DFEs, three servers, on mixed traffic;"
	@echo "                the first time it compiles for some minutes"
	@echo "make check      make lint, and the quick tier of the tests: under five minutes"
	@echo "make test       all tests: about $(MINUTES) minutes"
	@echo "make prove      what docs/security.md says is proved: counter-examples are"
	@echo "                searched for, and each proof is tried on mutations"
	@echo "make bench      the gateway in clocks, against its requirements; the software"
	@echo "                path; handshakes beside strongSwan's"
	@echo "make synth      LUTs, block RAM and MHz on an ECP5"
	@echo "make registers  the register reference, as HTML, and its enumerations in Python"
	@echo "make docs       the documentation as a site, in build/docs/html; before that"
	@echo "                docs/configuration.md, from the schemas, and the pictures"
	@echo "make figures    docs/figures.md, from what bench, synth and prove wrote"
	@echo "make fuzz       a million packets in each data plane beside RFC 4301, mutated"
	@echo "                packets, IKE messages, and IKE messages of peers and of"
	@echo "                strangers to endpoints at work (FUZZ=n: n of each); a"
	@echo "                tenth of them beside Linux, where user-mode-linux is"
	@echo "make lint       ruff, its formatter, mypy, and the licence of each file"
	@echo "make clean      remove $(VENV) and build/"

setup: $(INSTALLED)

# What Debian's python3 leaves to other packages: venv's pip, for which an installed pip does as well, and the library that
# simulators load. Root gets them; others are told.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || $(PYTHON) -m pip --version >/dev/null 2>&1 || $(call debian,python3-venv)
	@echo "make setup installs into $(VENV); it says nothing for a minute or two"
	@if $(PYTHON) -c "import ensurepip" 2>/dev/null; then \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --editable ".[dev]"; \
	else \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --editable ".[dev]"; \
	fi
	@$(BIN)/python -c "import sys, find_libpython; sys.exit(not find_libpython.find_libpython())" || \
		$(call debian,$$($(BIN)/python -c "import sys; print('libpython%d.%d' % sys.version_info[:2])"))
	@touch $@

demo: setup
	$(BIN)/spigate demo --out build/demo

check: lint
	$(BIN)/python -m pytest --quick -n 2 --dist loadgroup

test: setup
	@echo "all tests take about $(MINUTES) minutes on two cores, two hours of CPU time; make check takes under five"
	$(BIN)/python -m pytest -n 2 --dist loadgroup

prove: setup
	$(BIN)/python -m tests.formal $(PROOFS) --json build/prove.json

bench: setup
	$(BIN)/spigate bench --json build/bench.json --markdown build/bench.md
	$(BIN)/spigate bench --soft --json build/bench-soft.json --markdown build/bench-soft.md
	$(BIN)/python -m tests.firmware_py.bench_ike --json build/bench-ike.json --markdown build/bench-ike.md

synth: setup
	$(BIN)/spigate synth --json build/synth.json

registers: setup
	$(BIN)/python -m spigate.hdl.contract.generate
	$(BIN)/python -m spigate.hdl.csr.reference build/registers
	$(BIN)/python -m spigate.hdl.csr.c_header build/registers/spigate.h

docs: setup
	$(BIN)/python -m spigate.firmware_py.daemon.reference > docs/configuration.md
	$(BIN)/python docs/pictures/draw.py
	$(BIN)/python docs/site/build.py build/docs

figures: setup
	$(BIN)/python -m spigate.sim.figures docs --collect build

fuzz: setup
	$(BIN)/python -m tests.firmware_py.differential --count $(FUZZ)
	$(BIN)/python -m tests.firmware_py.differential_linux --count $$(($(FUZZ) / 10))
	$(BIN)/python -m tests.firmware_py.fuzz_packets --count $(FUZZ)
	$(BIN)/python -W ignore -m tests.firmware_py.ike.fuzz --count $(FUZZ)
	$(BIN)/python -W ignore -m tests.firmware_py.ike.fuzz_endpoint --count $(FUZZ)
	$(BIN)/python -W ignore -m tests.firmware_py.ike.fuzz_strangers --count $(FUZZ)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/reuse lint --quiet || $(BIN)/reuse lint

clean:
	rm -rf $(VENV) build
