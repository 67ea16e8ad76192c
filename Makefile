# Thin: every target is one command that can be typed by hand. `make help` explains them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

ENV ?= local
ARGS ?=
RELEASE ?=
NAME ?=
BACKUP ?=
TIME ?=
VERSION ?=
DIR ?=
REPOSITORY ?=
FORMAT ?=
INVENTORY := inventories/$(ENV)/hosts.yml
LOCAL := .venv/local/bin/python -m local
ANSIBLE := .venv/controller/bin/ansible-playbook -i $(INVENTORY)
# Several repositories in one platform: which of them publishes, is rolled back, is listed.
OF_REPOSITORY = $(if $(REPOSITORY),-e "dags_repository=$(REPOSITORY)")
REPORT := ANSIBLE_STDOUT_CALLBACK=platform_report $(ANSIBLE)
# What make logs was asked for may hold anything: it goes through the environment, not through a shell.
export SERVICE TASK RUN SINCE GREP FOLLOW
from_environment = '{{ lookup("ansible.builtin.env", "$(1)") }}'
define LOGS
{logs_service: $(call from_environment,SERVICE), logs_task: $(call from_environment,TASK), logs_run: $(call from_environment,RUN), logs_since: $(call from_environment,SINCE), logs_grep: $(call from_environment,GREP), logs_follow: $(call from_environment,FOLLOW)}
endef
export LOGS
# What tasks of the local platform are: process (the default) or docker.
ifneq ($(RUNTIME),)
export DAGSTER_LOCAL_RUNTIME := $(RUNTIME)
endif
# Extra arguments may hold quotes; the environment hands them to the shell as they are.
export ARGS

##@ Everything on this machine
.PHONY: up
up: ## Start Dagster: environment, emulator, PostgreSQL, infrastructure, example DAGs; prints the URL; RUNTIME=docker: in containers
	@local/bootstrap.sh controller local container
	@$(LOCAL) up

.PHONY: dev
dev: ## The same with live reload: what is saved below dags/ is published by itself, until Ctrl-C
	@local/bootstrap.sh controller local container
	@.venv/local/bin/python -m local.dev --inventory $(ENV) $(ARGS)

.PHONY: down
down: env-local ## Stop everything, keep the data
	@$(LOCAL) down

.PHONY: clean
clean: env-local ## Stop everything, remove all data (the environments in .venv/ stay)
	@$(LOCAL) clean

.PHONY: distclean
distclean: clean ## The same, and remove .venv/ and build/ too: only the checkout is left
	@rm -rf .venv build

##@ Looking (ENV=<inventory>, default local; FORMAT=json for scripts)
.PHONY: status
status: env-controller env-processes ## Services, tasks, releases, daemons, runs, data on one screen; fails if not healthy
	@$(REPORT) playbooks/status.yml -e "status_format=$(FORMAT)" $(ARGS)

.PHONY: logs
logs: env-controller ## Log lines of tasks: SERVICE=web|daemon TASK= RUN= SINCE=10m GREP= FOLLOW=1 (playbooks/logs.yml)
	@$(REPORT) playbooks/logs.yml -e "logs_format=$(FORMAT)" -e "$$LOGS" $(ARGS) || [ $$? -eq 99 ] # after Ctrl-C

.PHONY: doctor
doctor: env-controller env-processes ## Check machine, settings and account, each with the repair (playbooks/doctor.yml)
	@local/bootstrap.sh container # its packages load the instance's configuration
	@$(REPORT) playbooks/doctor.yml -e "doctor_format=$(FORMAT)" $(ARGS)

.PHONY: open
open: env-controller ## Print the address of the web UI and how to reach it, and open it; OPEN=0: print only
	@$(REPORT) playbooks/open.yml -e "open_format=$(FORMAT) open_browser=$(OPEN)" $(ARGS)

##@ Ansible (ENV=<inventory>, default local; ARGS="--check --diff" and the like)
.PHONY: create-dag
create-dag: env-controller ## Make a code location below dags_path, with a test: NAME=sales (playbooks/create_dag.yml)
	@local/bootstrap.sh container # its packages run the test
	@$(ANSIBLE) playbooks/create_dag.yml -e "create_dag_name=$(NAME)" $(ARGS)

.PHONY: check-dags
check-dags: ## Check that every code location loads, without AWS: DIR=dags; also for pre-commit (local/check_dags.sh)
	@local/check_dags.sh "$(or $(DIR),dags)"

.PHONY: deploy-dags
deploy-dags: env-controller ## Deploy dags/ (or DIR=) and wait until every task serves it; REPOSITORY= for one of several (deploy_dags.yml)
	@local/bootstrap.sh container # its packages check that the DAGs load
	@$(ANSIBLE) deploy_dags.yml $(if $(DIR),-e "dags_path=$(DIR)") $(OF_REPOSITORY) $(ARGS)

.PHONY: rollback-dags
rollback-dags: env-controller ## Serve the previous release again, or RELEASE=<id>, and wait; REPOSITORY= for one's part (rollback_dags.yml)
	@$(ANSIBLE) rollback_dags.yml -e "dag_release_rollback_to=$(RELEASE)" $(OF_REPOSITORY) $(ARGS)

.PHONY: dags-history
dags-history: env-controller ## Who released what when, what it changed, which tasks serve it; REPOSITORY= (dags_history.yml)
	@$(ANSIBLE) dags_history.yml $(OF_REPOSITORY) $(ARGS)

.PHONY: build
build: env-controller ## Build the image where its content is not built yet, for ARM64 and amd64 (playbooks/build.yml); needs Docker
	@$(ANSIBLE) playbooks/build.yml $(ARGS)

.PHONY: push
push: env-controller ## Push it to ECR, look at the scan, write its digest into the inventory (playbooks/push.yml)
	@$(ANSIBLE) playbooks/push.yml $(ARGS)

.PHONY: deploy
deploy: env-controller ## Replace all tasks by the newest image and settings, and wait (playbooks/deploy.yml)
	@$(ANSIBLE) playbooks/deploy.yml $(ARGS)

.PHONY: deploy-all
deploy-all: env-controller ## deploy, then deploy-dags (playbooks/deploy_all.yml)
	@local/bootstrap.sh container
	@$(ANSIBLE) playbooks/deploy_all.yml $(ARGS)

.PHONY: infra-init
infra-init: env-controller ## Make the inventory NAME from answers, and say what else must exist (playbooks/infra_init.yml)
	@ANSIBLE_STDOUT_CALLBACK=platform_report $(ANSIBLE) playbooks/infra_init.yml -e "init_format=$(FORMAT)" \
	  $(if $(NAME),-e "init_name=$(NAME)") $(ARGS)

.PHONY: infra-plan
infra-plan: env-controller ## Show what infra-apply would create, change, replace and remove, with prices
	@ANSIBLE_STDOUT_CALLBACK=platform_plan $(ANSIBLE) site.yml --check --diff $(ARGS)

.PHONY: cost
cost: env-controller ## What the platform costs a month, per resource and topology; FORMAT=json (playbooks/cost.yml)
	@ANSIBLE_STDOUT_CALLBACK=platform_report $(ANSIBLE) playbooks/cost.yml -e "cost_format=$(FORMAT)" $(ARGS)

.PHONY: infra-apply
infra-apply: env-controller ## Create or correct the infrastructure (site.yml)
	@$(ANSIBLE) site.yml $(ARGS)

.PHONY: backup
backup: env-controller ## Back the database up, NAME=before-upgrade or the time; everything goes on (playbooks/backup.yml)
	@$(ANSIBLE) playbooks/backup.yml -e "backup_name=$(NAME)" $(ARGS)

.PHONY: backups
backups: env-controller ## List the database's backups with age, size and price; FORMAT=json (playbooks/backups.yml)
	@ANSIBLE_STDOUT_CALLBACK=platform_report $(ANSIBLE) playbooks/backups.yml -e "backup_format=$(or $(FORMAT),text)" $(ARGS)

.PHONY: restore
restore: env-controller ## Put BACKUP=<name>, or TIME=2026-01-31T12:00:00Z, in the place of the database (playbooks/restore.yml)
	@$(ANSIBLE) playbooks/restore.yml -e "backup_restore=$(BACKUP)" -e "backup_restore_time=$(TIME)" $(ARGS)

.PHONY: hibernate
hibernate: env-controller ## Stop what costs, keep all data, and say what is still charged (playbooks/hibernate.yml)
	@$(ANSIBLE) playbooks/hibernate.yml $(ARGS)

.PHONY: wake
wake: env-controller ## Start again what hibernate, or the office hours, have stopped (playbooks/wake.yml)
	@$(ANSIBLE) playbooks/wake.yml $(ARGS)

.PHONY: rotate-credentials
rotate-credentials: env-controller ## New database password and S3 keys, without an outage (playbooks/rotate_credentials.yml)
	@$(ANSIBLE) playbooks/rotate_credentials.yml $(ARGS)

.PHONY: deployer-policy
deployer-policy: env-controller ## Print the IAM policies for whoever deploys (playbooks/deployer_policy.yml)
	@$(ANSIBLE) playbooks/deployer_policy.yml $(ARGS)

.PHONY: awx
awx: env-controller ## Put awx/ into AWX: templates, surveys, workflow; CONTROLLER_HOST, CONTROLLER_OAUTH_TOKEN (playbooks/awx.yml)
	@local/bootstrap.sh awx
	@.venv/awx/bin/ansible-playbook -i $(INVENTORY) playbooks/awx.yml $(ARGS)

.PHONY: awx-image
awx-image: ## Build the image that jobs of AWX run in: NAME=<registry>/dagster-ecs-ee:1 (docs/awx.md); needs Docker
	@[ -n "$(NAME)" ] || { echo "ERROR: NAME is empty. Say what the image is called: make awx-image NAME=<registry>/dagster-ecs-ee:1" >&2; exit 2; }
	@local/bootstrap.sh test
	@DOCKER_BUILDKIT=1 .venv/test/bin/ansible-builder build --container-runtime docker --context build/execution-environment --tag "$(NAME)" $(ARGS)
	@echo "Built. Push it, and name it in awx/settings.yml (awx_execution_environment_image): docker push $(NAME)"

.PHONY: infra-destroy
infra-destroy: env-controller ## Remove the infrastructure (playbooks/destroy.yml)
	@$(ANSIBLE) playbooks/destroy.yml $(ARGS)

##@ Development
.PHONY: test
test: ## Run all: linters, type checker, policy scanner, unit, integration and end-to-end tests, Molecule
	@local/bootstrap.sh controller local container test scan bench supply awx
	@local/test.sh all

.PHONY: test-times
test-times: ## Show where the time of the last tests went, per file, and write tests/times.tsv, which orders them
	@local/bootstrap.sh test
	@.venv/test/bin/python -m tests.times build/tests.xml

.PHONY: lint
lint: ## Run the linters and the type checker
	@local/bootstrap.sh container test supply
	@local/test.sh lint

.PHONY: scan
scan: ## Run the policy scanner on what is asked of AWS, the Dockerfile and all files (checkov)
	@local/bootstrap.sh test scan
	@local/test.sh scan

.PHONY: soak
soak: ## Run the long versions of tests: 200 swaps, thousands of interleavings (some 30 minutes)
	@local/bootstrap.sh controller local container test
	@SWAPS=200 HYPOTHESIS_PROFILE=soak .venv/test/bin/pytest -s --timeout 5000 \
	  tests/integration/runtime/test_swaps.py tests/unit/release/test_protocol.py

.PHONY: molecule
molecule: ## Run the Molecule scenario `default`
	@local/bootstrap.sh controller local container test
	@local/test.sh molecule

.PHONY: bench
bench: ## Measure, and write docs/benchmarks.md (25 minutes); QUICK=1: a short version; ARGS="publish growth": some
	@local/bootstrap.sh controller container test bench
	@.venv/test/bin/python -m bench $(if $(QUICK),--quick) $(ARGS)

.PHONY: refresh-prices
refresh-prices: env-controller ## Bring the list prices up to date from AWS (playbooks/refresh_prices.yml); needs ENV of an account
	@$(ANSIBLE) playbooks/refresh_prices.yml $(ARGS)

.PHONY: sbom
sbom: ## Write the image's software bill of materials, build/sbom.json (CycloneDX)
	@local/bootstrap.sh container supply
	@.venv/supply/bin/python -m local.supply sbom

.PHONY: licenses
licenses: ## List the licences of what the image holds; fails if docker/licenses.toml does not accept one
	@local/bootstrap.sh container supply
	@.venv/supply/bin/python -m local.supply licenses

.PHONY: audit
audit: ## Look up known vulnerabilities of the locked packages (pip-audit); Error 3: they could not be looked up
	@local/bootstrap.sh supply
	@.venv/supply/bin/python -m local.supply audit $(ARGS)

.PHONY: upgrade-dagster
upgrade-dagster: ## Lock Dagster VERSION=1.13.28 and run the tests of what is relied on in Dagster (docs/upgrade-dagster.md)
	@local/bootstrap.sh controller local container test
	@.venv/test/bin/python -m local.upgrade_dagster "$(VERSION)"

.PHONY: lock
lock: ## Lock all dependencies anew, newest versions that fit
	@local/lock.sh

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nPorts and state directory: DAGSTER_LOCAL_UI_PORT (3000), DAGSTER_LOCAL_AWS_PORT (4566),\n'
	@printf 'DAGSTER_LOCAL_POSTGRES_PORT (54320), DAGSTER_LOCAL_STATE (.local). Inventories: %s\n' "$(INVENTORIES)"

INVENTORIES := $(patsubst inventories/%/hosts.yml,%,$(wildcard inventories/*/hosts.yml))

.PHONY: env-local
env-local:
	@local/bootstrap.sh local

# The embedded default shows its processes, too.
.PHONY: env-processes
env-processes:
	@if [ "$(ENV)" = local ]; then local/bootstrap.sh local; fi

.PHONY: env-controller
env-controller: known-inventory
	@local/bootstrap.sh controller

.PHONY: known-inventory
known-inventory:
	@if [ ! -f "$(INVENTORY)" ]; then \
	  echo "ERROR: ENV=$(ENV): there is no $(INVENTORY). Choices: $(INVENTORIES)." \
	    "For an AWS account of yours: cp -r inventories/example inventories/$(ENV), edit its group_vars, try again." >&2; \
	  exit 2; \
	fi
