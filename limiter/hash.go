package limiter

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// The multiplication constants are the fractional digits of square roots of small
// primes, made odd: numbers with nothing up the sleeve and about half of the bits set.
const (
	mixA = 0x6a09e667f3bcc909
	mixB = 0xbb67ae8584caa73b
	mixC = 0x3c6ef372fe94f82b
)

// mix folds the 128-bit product of a and b, the step that wyhash and its kin are
// built from (Wang Yi, "wyhash", 2019).
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// secret is what makes hashes unpredictable: two words that are made from a
// Limiter's seed. Each word of input is mixed with one of them, so that who does not
// know the seed cannot choose input that makes a product vanish.
type secret [2]uint64

func secretOf(seed uint64) secret {
	s := secret{mix(seed^mixA, mixB), 0}
	s[1] = mix(s[0]^mixC, seed^mixB)
	return s
}

// bytes hashes b, salted with salt.
func (k *secret) bytes(salt uint64, b []byte) uint64 {
	h := salt ^ mixA
	n := uint64(len(b))
	for len(b) >= 16 {
		h = mix(binary.LittleEndian.Uint64(b)^k[0], binary.LittleEndian.Uint64(b[8:])^h^k[1])
		b = b[16:]
	}
	var x, y uint64
	if len(b) >= 8 {
		x = binary.LittleEndian.Uint64(b)
		b = b[8:]
		y = tail(b)
	} else {
		x = tail(b)
	}
	return mix(mix(x^k[0], y^h^k[1])^n^k[1], mixC^k[0])
}

// tail reads at most 8 bytes as a little-endian number.
func tail(b []byte) uint64 {
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// digest stands for a text in an index that does not keep the text: 128 bits of its
// SHA-256 under the seed, so that no two texts are taken for one another.
type digest [2]uint64

// digestOf returns the digest of parts; which part a byte belongs to counts.
func (k *secret) digestOf(purpose byte, parts ...string) digest {
	var space [320]byte
	b := binary.LittleEndian.AppendUint64(space[:0], k[0])
	b = append(binary.LittleEndian.AppendUint64(b, k[1]), purpose)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return digest{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// The purposes of digests.
const (
	ofRequest     = 'r'
	ofIdempotency = 'i'
	ofTenant      = 't'
	ofRight       = 'p'
)
