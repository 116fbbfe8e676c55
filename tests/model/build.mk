# SPDX-License-Identifier: MIT
# The models of the doorbell: nothing is built here, tests/model/run does it all.

.PHONY: model
model: ## check the exhaustive models of the doorbell protocol (spin)
	@tools/setup --model
	@tests/model/run
