// Package cache keeps values in memory, forgets the least recently used ones, and counts.
package cache

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"
)

const defaultSize = 128

var (
	// ErrMissing says that a key is not there and cannot be loaded.
	ErrMissing = errors.New("cache: missing key")
	now        = time.Now
)

// Loader makes the value for a key that is not in the cache.
type Loader[V any] interface {
	Load(key string) (V, error)
}

// LoaderFunc is a function that loads.
type LoaderFunc[V any] func(key string) (V, error)

// Load calls the function.
func (f LoaderFunc[V]) Load(key string) (V, error) { return f(key) }

type entry[V any] struct {
	key     string
	value   V
	expires time.Time
}

// Stats are counts since the cache was made.
type Stats struct {
	Hits, Misses, Evicted uint64
}

// Cache is safe for use by several goroutines at once.
type Cache[V any] struct {
	mu     sync.Mutex
	size   int
	ttl    time.Duration
	order  *list.List
	items  map[string]*list.Element
	loader Loader[V]
	stats  Stats
}

// New makes a cache of the given size; a size of zero means the default.
func New[V any](size int, ttl time.Duration, loader Loader[V]) *Cache[V] {
	if size <= 0 {
		size = defaultSize
	}
	return &Cache[V]{
		size:   size,
		ttl:    ttl,
		order:  list.New(),
		items:  make(map[string]*list.Element, size),
		loader: loader,
	}
}

// Get returns the value of a key, loading it when needed.
func (c *Cache[V]) Get(key string) (V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.items[key]; ok {
		found := element.Value.(*entry[V])
		if c.ttl == 0 || now().Before(found.expires) {
			c.order.MoveToFront(element)
			c.stats.Hits++
			return found.value, nil
		}
		c.remove(element)
	}
	c.stats.Misses++
	var zero V
	if c.loader == nil {
		return zero, fmt.Errorf("%w: %q", ErrMissing, key)
	}
	value, err := c.loader.Load(key)
	if err != nil {
		return zero, fmt.Errorf("load %q: %w", key, err)
	}
	c.put(key, value)
	return value, nil
}

func (c *Cache[V]) put(key string, value V) {
	c.items[key] = c.order.PushFront(&entry[V]{key, value, now().Add(c.ttl)})
	for c.order.Len() > c.size {
		c.remove(c.order.Back())
		c.stats.Evicted++
	}
}

func (c *Cache[V]) remove(element *list.Element) {
	c.order.Remove(element)
	delete(c.items, element.Value.(*entry[V]).key)
}

// Sweep drops what has expired, every interval, until the channel is closed.
func (c *Cache[V]) Sweep(interval time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.mu.Lock()
			for e := c.order.Back(); e != nil; {
				before := e.Prev()
				if now().After(e.Value.(*entry[V]).expires) {
					c.remove(e)
				}
				e = before
			}
			c.mu.Unlock()
		case <-stop:
			return
		}
	}
}
