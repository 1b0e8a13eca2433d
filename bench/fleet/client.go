package main

// One client: its stream, its subscriptions, its ACKs.

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
)

const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

// rawCodec hands message bytes through; it takes the place of the "proto" codec.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*(v.(*[]byte)))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*(v.(*mem.Buffer)) = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

type sighting struct {
	marker int
	at     int64 // unix ns
}

// client is one sidecar. needs and wants are never written to once they are set: clients that hold equal
// configurations share them (see share), so that a client costs kilobytes, not hundreds of them.
type client struct {
	node       []byte
	creds      credentials.TransportCredentials
	stream     grpc.ClientStream
	start      int64
	first      int64 // unix ns when the first configuration was complete; 0 before
	have       [nTypes]bool
	started    [nTypes]bool
	needs      [nTypes]map[string][]string // cds: cluster -> EDS name; lds: listener -> route names
	wants      [nTypes][]string            // eds, rds: names subscribed to, sorted
	got        [nTypes]map[string]bool     // eds, rds: names that came; nil once the first configuration is complete
	names      [nTypes][]byte              // sotw: encoded resource_names
	vers       [nTypes]string
	nonces     [nTypes]string
	mu         sync.Mutex
	sightings  []sighting
	bytes      [nTypes]atomic.Int64
	responses  [nTypes]atomic.Int64
	err        atomic.Pointer[string]
	reconnects atomic.Int64
}

var (
	clients    []*client
	nComplete  atomic.Int64
	otherTypes atomic.Int64
	t0         int64
)

func newClient(node []byte, creds credentials.TransportCredentials) *client {
	c := &client{node: node, creds: creds}
	c.reset()
	return c
}

// reset forgets what a lost stream gave.
func (c *client) reset() {
	c.have, c.started = [nTypes]bool{}, [nTypes]bool{}
	c.needs, c.wants = [nTypes]map[string][]string{}, [nTypes][]string{}
	c.got = [nTypes]map[string]bool{eds: {}, rds: {}}
	c.names, c.vers, c.nonces = [nTypes][]byte{}, [nTypes]string{}, [nTypes]string{}
}

// loop runs the client and reconnects, as Envoy does, with a jittered backoff of about a second.
func (c *client) loop(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.run(ctx); err != nil {
			s := err.Error()
			c.err.Store(&s)
		}
		time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Millisecond)
		c.reconnects.Add(1)
		c.reset()
	}
}

// run serves one stream until it ends.
func (c *client) run(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+*addr, grpc.WithTransportCredentials(c.creds),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20), // as pilot-agent
		grpc.WithSharedWriteBuffer(true), grpc.WithReadBufferSize(8<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	method := service + "DeltaAggregatedResources"
	if *mode != "delta" {
		method = service + "StreamAggregatedResources"
	}
	if c.first == 0 {
		c.start = time.Now().UnixNano()
	}
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	if c.stream, err = conn.NewStream(ctx, description, method, grpc.WaitForReady(true)); err != nil {
		return err
	}
	if err = c.subscribe(cds, c.node, nil, nil); err != nil {
		return err
	}
	var r response
	for err == nil {
		err = c.receive(&r)
	}
	return err
}

// receive takes one response in and answers it.
func (c *client) receive(r *response) error {
	var buf mem.Buffer
	if err := c.stream.RecvMsg(&buf); err != nil {
		return err
	}
	now := time.Now().UnixNano()
	size := buf.Len()
	parseResponse(buf.ReadOnlyData(), *mode == "delta", r)
	buf.Free()
	if r.t < 0 {
		otherTypes.Add(1)
		return nil
	}
	c.bytes[r.t].Add(int64(size))
	c.responses[r.t].Add(1)
	c.vers[r.t], c.nonces[r.t] = r.version, r.nonce
	c.note(r, now)
	if err := c.ack(r); err != nil {
		return err
	}
	if t, of := follows[r.t]; of {
		if err := c.follow(r, t); err != nil {
			return err
		}
	}
	if !c.started[lds] && c.have[cds] && c.covered(eds) { // Envoy asks for listeners once clusters are warm
		if err := c.subscribe(lds, nil, nil, nil); err != nil {
			return err
		}
	}
	if c.got[eds] != nil && c.have[cds] && c.have[lds] && c.covered(eds) && c.covered(rds) {
		c.got = [nTypes]map[string]bool{}
		if c.first == 0 {
			c.first = now
			nComplete.Add(1)
		}
	}
	return nil
}

// note keeps what came: first bodies, names, sightings of markers.
func (c *client) note(r *response, now int64) {
	if !c.have[r.t] {
		c.have[r.t] = true
		h := uint64(0)
		for _, in := range r.infos {
			h += in.hash * 0x9e3779b97f4a7c15
		}
		firstBodies[r.t].Store(h, nil)
	}
	for _, in := range r.infos {
		if c.got[r.t] != nil {
			c.got[r.t][in.name] = true
		}
		for _, m := range in.markers {
			c.mu.Lock()
			c.sightings = append(c.sightings, sighting{m<<3 | r.t, now})
			c.mu.Unlock()
		}
	}
}

func (c *client) ack(r *response) error {
	if *mode == "delta" {
		return c.send(deltaRequest(nil, typeURLs[r.t], r.nonce, nil, nil))
	}
	return c.send(sotwRequest(nil, typeURLs[r.t], r.version, r.nonce, c.names[r.t]))
}

// follows tells the type whose names another type's resources say.
var follows = map[int]int{cds: eds, lds: rds}

// follow changes the subscription to t after a response of clusters or listeners.
func (c *client) follow(r *response, t int) error {
	if !c.need(r) {
		return nil
	}
	set := map[string]bool{}
	for _, names := range c.needs[r.t] {
		for _, name := range names {
			set[name] = true
		}
	}
	want := slices.Sorted(maps.Keys(set))
	add, del := missing(want, c.wants[t]), missing(c.wants[t], want)
	if len(add)+len(del) == 0 {
		return nil
	}
	c.wants[t] = share(want, c.needs[r.t]).wants
	c.needs[r.t] = share(want, c.needs[r.t]).needs
	return c.subscribe(t, nil, add, del)
}

// need updates what clusters or listeners refer to; whether it changed.
func (c *client) need(r *response) bool {
	before := c.needs[r.t]
	fresh := before == nil
	for _, in := range r.infos {
		fresh = fresh || !slices.Equal(before[in.name], in.refs)
	}
	for _, name := range r.removed {
		fresh = fresh || before[name] != nil
	}
	if *mode != "delta" {
		fresh = fresh || len(r.infos) != len(before)
	}
	if !fresh {
		return false
	}
	after := map[string][]string{}
	if *mode == "delta" {
		maps.Copy(after, before)
	}
	for _, in := range r.infos {
		after[in.name] = in.refs
	}
	for _, name := range r.removed {
		delete(after, name)
	}
	c.needs[r.t] = after
	return true
}

func (c *client) subscribe(t int, node []byte, add, del []string) error {
	c.started[t] = true
	if *mode == "delta" {
		return c.send(deltaRequest(node, typeURLs[t], "", add, del))
	}
	c.names[t] = encodeNames(c.wants[t])
	return c.send(sotwRequest(node, typeURLs[t], c.vers[t], c.nonces[t], c.names[t]))
}

func (c *client) send(b []byte) error { return c.stream.SendMsg(&b) }

// covered tells whether every name subscribed to has come.
func (c *client) covered(t int) bool {
	if c.got[t] == nil {
		return true
	}
	for _, name := range c.wants[t] {
		if !c.got[t][name] {
			return false
		}
	}
	return true
}

// missing gives the members of one sorted list that another has not.
func missing(of, in []string) (out []string) {
	for _, name := range of {
		if _, found := slices.BinarySearch(in, name); !found {
			out = append(out, name)
		}
	}
	return
}
