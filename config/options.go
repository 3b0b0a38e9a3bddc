package config

// Options says how files are read. The zero value is weir's own way, that of [Load] and
// [NewReloader]; the others are for those who come from envoyproxy/ratelimit.
type Options struct {
	// MayBeEmpty accepts paths below which there is no file, or which are not there yet:
	// as long as that is so, nothing is limited. A path that has gone is an error.
	MayBeEmpty bool
	// DotFiles reads *.yaml and *.yml files of directories also where their names begin
	// with a dot. Directories of such names are never read.
	DotFiles bool
	// MergeDomains lets several files of envoyproxy/ratelimit add descriptors to one
	// domain. A descriptor that is in two of them is still an error.
	MergeDomains bool
	// Strict counts in the domains of such files as envoyproxy/ratelimit itself does: in
	// fixed windows, each descriptor by itself, and what is refused too. The server then
	// answers with its errors as well.
	Strict bool
}

// Load is [Load] for files that are read as o says.
func (o Options) Load(paths []string, prev *Loaded) (*Loaded, error) {
	r := &report{}
	return o.build(paths, o.gather(paths, r), r, prev)
}

// LoadFirst is Load for who starts without a valid configuration rather than not at all:
// with the [*Error] it returns one that is Missing, from which a [Reloader] can start.
func (o Options) LoadFirst(paths []string) (*Loaded, error) {
	r := &report{}
	s := o.gather(paths, r)
	l, err := o.build(paths, s, r, nil)
	if err == nil {
		return l, nil
	}
	missing := o.Nothing()
	missing.Missing, missing.read.state = true, s.state
	return missing, err
}

// Nothing returns a configuration that limits nothing.
func (o Options) Nothing() *Loaded {
	o.MayBeEmpty = true
	l, err := o.build([]string{""}, snapshot{}, &report{}, nil)
	if err != nil {
		panic("a configuration of nothing is not valid: " + err.Error()) // it is a constant
	}
	return l
}

// NotLoaded returns a configuration that is Missing.
func NotLoaded() *Loaded {
	l := Options{}.Nothing()
	l.Missing = true
	return l
}
