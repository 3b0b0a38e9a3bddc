package limiter

// order holds places by band, start tag and number, and knows what those before any
// point of it take together: a treap, a search tree that is a heap of hashes of the
// numbers (Seidel and Aragon, "Randomized search trees", 1996), with sums. Whoever
// keeps a place embeds its spot, so that an order allocates nothing.
type order struct {
	root *spot
	n    int
}

// spot is one place in an order. While it is in one, its key does not change, and its
// cost by reweigh alone.
type spot struct {
	band  Priority
	start float64
	order uint64 // tells places with one start tag apart: the earlier goes first
	cost  cost

	sum         cost // of the places below, and this one
	left, right *spot
}

func (n *spot) less(o *spot) bool {
	switch {
	case n.band != o.band:
		return n.band < o.band
	case n.start != o.start:
		return n.start < o.start
	}
	return n.order < o.order
}

func (n *spot) rank() uint64 { return mix(n.order^mixA, mixB) }

// add adds the sums up anew: they are made of costs that are there, so that rounding
// leaves nothing behind of those that are gone.
func (n *spot) add() {
	n.sum = n.cost
	if n.left != nil {
		n.sum = n.left.sum.plus(n.sum)
	}
	if n.right != nil {
		n.sum = n.sum.plus(n.right.sum)
	}
}

func (o *order) insert(n *spot) {
	n.left, n.right = nil, nil
	o.root = o.root.with(n)
	o.n++
}

func (o *order) remove(n *spot) {
	o.root = o.root.without(n)
	n.left, n.right = nil, nil
	o.n--
}

// reweigh changes what the place n takes.
func (o *order) reweigh(n *spot, c cost) {
	if n.cost != c {
		n.cost = c
		o.root.reweigh(n)
	}
}

// first and last return the places at the ends of an order that is not empty.
func (o *order) first() *spot {
	n := o.root
	for n.left != nil {
		n = n.left
	}
	return n
}

func (o *order) last() *spot {
	n := o.root
	for n.right != nil {
		n = n.right
	}
	return n
}

// before sums up what those take whose turn is before (b, start).
func (o *order) before(b Priority, start float64) cost {
	var c cost
	for t := o.root; t != nil; {
		if t.band > b || (t.band == b && t.start >= start) {
			t = t.left
			continue
		}
		if t.left != nil {
			c = c.plus(t.left.sum)
		}
		c = c.plus(t.cost)
		t = t.right
	}
	return c
}

func (n *spot) with(o *spot) *spot {
	if n == nil || o.rank() > n.rank() {
		o.left, o.right = n.split(o)
		o.add()
		return o
	}
	if o.less(n) {
		n.left = n.left.with(o)
	} else {
		n.right = n.right.with(o)
	}
	n.add()
	return n
}

// split parts the places below n, and n, into those before o and those after it.
func (n *spot) split(o *spot) (before, after *spot) {
	switch {
	case n == nil:
		return nil, nil
	case n.less(o):
		n.right, after = n.right.split(o)
		n.add()
		return n, after
	}
	before, n.left = n.left.split(o)
	n.add()
	return before, n
}

func (n *spot) without(o *spot) *spot {
	if n == o {
		return merge(n.left, n.right)
	}
	if o.less(n) {
		n.left = n.left.without(o)
	} else {
		n.right = n.right.without(o)
	}
	n.add()
	return n
}

// merge joins two trees, of which all of a is before all of b.
func merge(a, b *spot) *spot {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.rank() > b.rank():
		a.right = merge(a.right, b)
		a.add()
		return a
	}
	b.left = merge(a, b.left)
	b.add()
	return b
}

func (n *spot) reweigh(o *spot) {
	switch {
	case n == o:
	case o.less(n):
		n.left.reweigh(o)
	default:
		n.right.reweigh(o)
	}
	n.add()
}
