package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/weir-project/weir/limiter"
)

// A snapshot is a line that says what follows, and a JSON document:
//
//	weir-learned 1 <CRC-32C of the document, hex> <its length>
//	{"quotas":[…]}
//
// The one before is kept beside it, for the case that a write is torn.
const (
	snapshotName    = "learned.json"
	snapshotBefore  = "learned.json.1"
	snapshotKind    = "weir-learned"
	snapshotVersion = 1
	// maxSnapshot bounds what is read: about a hundred thousand quotas.
	maxSnapshot = 256 << 20
)

type snapshot struct {
	Quotas []limiter.Learned `json:"quotas"`
}

// Save writes what was learned into dir, which is made if it is not there. A crash
// while it writes leaves an older snapshot. It can run beside everything else, but not
// beside another Save to the same dir.
func (s *Store) Save(dir string) error {
	var doc snapshot
	now := s.clock()
	for i := range s.shards {
		s.shards[i].mu.Lock()
		doc.Quotas = append(doc.Quotas, s.l.Learned(now, i)...)
		s.shards[i].mu.Unlock()
	}
	s.left.mu.Lock()
	doc.Quotas = append(doc.Quotas, s.left.quotas...)
	s.left.mu.Unlock()
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("what was learned cannot be written down: %w", err)
	}
	head := fmt.Sprintf("%s %d %08x %d\n", snapshotKind, snapshotVersion, checksum(body), len(body))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	name := filepath.Join(dir, snapshotName)
	if err := writeSynced(name+".new", []byte(head), body); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := os.Rename(name, filepath.Join(dir, snapshotBefore)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return syncDir(dir)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// writeSynced writes a file of its owner's only, and waits until it is on the disk. A
// link in its place is not followed.
func writeSynced(name string, parts ...[]byte) (err error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range parts {
		if _, err := f.Write(p); err != nil {
			return err
		}
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load takes in what Save wrote, as far as plan p still has the quotas, and returns how
// many. Nothing there is no error. A file that is torn, or is none of weir's, is
// passed over for the one before it; the error then says so, and what was restored
// counts all the same.
func (s *Store) Load(dir string, p *limiter.Plan) (int, error) {
	var errs []error
	for _, name := range []string{snapshotName, snapshotBefore} {
		doc, err := readSnapshot(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("%s is passed over: %w", filepath.Join(dir, name), err))
			continue
		}
		return s.restore(doc.Quotas, p), errors.Join(errs...)
	}
	return 0, errors.Join(errs...)
}

// Resume takes in what Load left because its plan did not have the quotas, as far as p
// has them, and returns how many. Call it before p decides.
func (s *Store) Resume(p *limiter.Plan) int {
	s.left.mu.Lock()
	quotas := s.left.quotas
	s.left.mu.Unlock()
	if len(quotas) == 0 {
		return 0
	}
	return s.restore(quotas, p)
}

// left is what was learned of quotas that no plan has had since.
type left struct {
	mu     sync.Mutex
	quotas []limiter.Learned
}

// leftFor is how long that is kept.
const leftFor = 24 * time.Hour

func (s *Store) restore(quotas []limiter.Learned, p *limiter.Plan) int {
	n := 0
	now := s.clock()
	var rest []limiter.Learned
	for i := range quotas {
		set, ok := s.l.RouteLearned(p, &quotas[i])
		if !ok {
			if now.Sub(quotas[i].Asked) < leftFor {
				rest = append(rest, quotas[i])
			}
			continue
		}
		s.lock(set)
		if s.l.Restore(now, p, &quotas[i]) {
			n++
		}
		s.unlock(set)
	}
	s.left.mu.Lock()
	s.left.quotas = rest
	s.left.mu.Unlock()
	return n
}

func readSnapshot(name string) (*snapshot, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, err
	}
	return parseSnapshot(b)
}

func parseSnapshot(b []byte) (*snapshot, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	var kind string
	var version, length int
	var sum uint32
	if n, err := fmt.Sscanf(string(head[:min(len(head), 100)]), "%s %d %x %d", &kind, &version, &sum, &length); !ok || err != nil || n != 4 || kind != snapshotKind {
		return nil, errors.New("it is not a snapshot of weir's")
	}
	switch {
	case version != snapshotVersion:
		return nil, fmt.Errorf("it is of version %d, expected %d", version, snapshotVersion)
	case len(body) != length:
		return nil, fmt.Errorf("it is torn: %d bytes, expected %d", len(body), length)
	case checksum(body) != sum:
		return nil, errors.New("it is damaged: its checksum does not match")
	}
	var doc snapshot
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return &doc, nil
}
