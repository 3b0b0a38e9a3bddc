// Package manifests reads the Kubernetes manifests among the examples, and checks them
// against the schemas of the resources that they are: schemas.json has these, reduced to what
// the manifests use. It needs no cluster and no network.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Object is one document of a file. It belongs to the caller.
type Object struct {
	// File and Line are where it begins.
	File string
	Line int
	// Value is what it says, as YAML decodes it.
	Value map[string]any
}

// Read returns the documents of a file. The values of a chart are read as the object that
// they hold under config.envoyGateway.
func Read(path string) ([]Object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var all []Object
	for {
		var n yaml.Node
		if err := d.Decode(&n); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		o := Object{File: path, Line: n.Content[0].Line}
		if err := n.Decode(&o.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if values, ok := o.Value["config"].(map[string]any); ok {
			o.Value, _ = values["envoyGateway"].(map[string]any)
		}
		all = append(all, o)
	}
}

// Kind is apiVersion and kind, with a slash between them.
func (o *Object) Kind() string { return fmt.Sprintf("%v/%v", o.Value["apiVersion"], o.Value["kind"]) }

// ConfigMap returns the data of a ConfigMap by key; nothing if it is none.
func (o *Object) ConfigMap() map[string]string {
	data := map[string]string{}
	if o.Kind() != "v1/ConfigMap" {
		return data
	}
	fields, _ := o.Value["data"].(map[string]any)
	for k, v := range fields {
		data[k], _ = v.(string)
	}
	return data
}
