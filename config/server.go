package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxDrainDelay bounds what cannot be meant.
const maxDrainDelay = time.Hour

// Setting is one line of a file's server block: how the process is to run that serves
// the file.
type Setting struct {
	// Name is the flag of weir serve that says the same, without its dashes in front.
	Name string
	// Value is as the flag would take it.
	Value string
	// File and Line are where it stands.
	File string
	Line int
}

// String says where the setting stands, as file:line.
func (s Setting) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// ChangedSettings returns the names of the settings that are in one of two server
// blocks alone, or have another value in the other, sorted.
func ChangedSettings(a, b []Setting) []string {
	values := make(map[string][2]string)
	for i, block := range [2][]Setting{a, b} {
		for _, s := range block {
			v := values[s.Name]
			v[i] = s.Value
			values[s.Name] = v
		}
	}
	var changed []string
	for name, v := range values {
		if v[0] != v[1] {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}

// takeServer notes what the file's server block says, if it has one.
func (f *native) takeServer(b *builder) {
	n := child(f.doc.root, "server")
	block := f.config.GetServer()
	if block == nil || isNull(n) {
		return
	}
	if b.server != nil {
		f.complain(n, "a second server block, expected one in all files; also at %s", b.server)
		return
	}
	b.server = &place{f.doc, n}
	m := block.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		name, at := string(field.Name()), child(n, string(field.Name()))
		value := fmt.Sprint(m.Get(field).Interface())
		if isDuration(field) {
			value = f.duration(value, name, at, 0, maxDrainDelay).String() // days are no word of flags
		}
		b.settings = append(b.settings, Setting{
			Name: strings.ReplaceAll(name, "_", "-"), Value: value, File: f.doc.path, Line: at.Line,
		})
	}
}
