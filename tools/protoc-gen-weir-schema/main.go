// Command protoc-gen-weir-schema is the plugin by which `buf generate` writes
// config/schema.json: the JSON Schema of weir.config.v1.Config, alone and under a
// name of its own. The work is done by protoc-gen-jsonschema, which must be on the
// PATH and would write one file for each message of every package.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	target   = "target=proto-strict-bundle"
	source   = "weir/config/v1/"
	theirs   = "weir.config.v1.Config.schema.strict.bundle.json"
	filename = "schema.json"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "protoc-gen-weir-schema:", err)
		os.Exit(1)
	}
}

// run answers one CodeGeneratorRequest.
func run(in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var request pluginpb.CodeGeneratorRequest
	if err := proto.Unmarshal(data, &request); err != nil {
		return err
	}
	narrow(&request)
	response, err := generate(&request)
	if err != nil {
		return err
	}
	if response.File, err = pick(response.GetFile()); err != nil {
		return err
	}
	if data, err = proto.Marshal(response); err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// narrow leaves only the configuration's package to be generated.
func narrow(request *pluginpb.CodeGeneratorRequest) {
	request.Parameter = new(target)
	request.FileToGenerate = slices.DeleteFunc(request.FileToGenerate, func(name string) bool {
		return !strings.HasPrefix(name, source)
	})
	request.SourceFileDescriptors = slices.DeleteFunc(request.SourceFileDescriptors, func(f *descriptorpb.FileDescriptorProto) bool {
		return !strings.HasPrefix(f.GetName(), source)
	})
}

// pick returns the one file that is wanted, under its own name.
func pick(files []*pluginpb.CodeGeneratorResponse_File) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	for _, f := range files {
		if f.GetName() == theirs {
			f.Name = new(filename)
			return []*pluginpb.CodeGeneratorResponse_File{f}, nil
		}
	}
	return nil, fmt.Errorf("no %s; did the message move?", theirs)
}

// generate hands a request to protoc-gen-jsonschema.
func generate(request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	data, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("protoc-gen-jsonschema")
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stderr = os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	return response, proto.Unmarshal(answer, response)
}
