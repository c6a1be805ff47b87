//go:build tools

// SPDX-License-Identifier: Apache-2.0

// Package tools pins the version of versitygw that tests/system/get-versitygw builds.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
