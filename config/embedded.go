package config

import (
	"bytes"
	_ "embed"
)

//go:embed schema.json
var schema []byte

//go:embed starter.yaml
var starter []byte

// Schema returns the JSON Schema of weir's own files, which editors use to complete
// and to check them. The caller owns the result.
func Schema() []byte { return bytes.Clone(schema) }

// Starter returns a commented file to start from. Its first line names the schema
// for editors, as a file beside it. The caller owns the result.
func Starter() []byte { return bytes.Clone(starter) }
