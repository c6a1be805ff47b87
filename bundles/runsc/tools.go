//go:build tools

// SPDX-License-Identifier: Apache-2.0

// Package tools pins the version of runsc that bundles/get-runsc builds.
package tools

import _ "gvisor.dev/gvisor/runsc"
