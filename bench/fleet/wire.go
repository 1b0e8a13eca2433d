package main

// Minimal hand-written protobuf wire code for the xDS messages the fleet needs.
// Nothing is unmarshalled into message objects: a response is walked once, and what is
// learned about each resource is cached by a hash of the resource's bytes, so that N
// clients which get the same bytes pay for one parse.

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	typeCDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	typeEDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeLDS = "type.googleapis.com/envoy.config.listener.v3.Listener"
	typeRDS = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

const (
	cds = iota
	eds
	lds
	rds
	nTypes
)

var typeURLs = [nTypes]string{typeCDS, typeEDS, typeLDS, typeRDS}
var typeNames = [nTypes]string{"cds", "eds", "lds", "rds"}

func typeIndex(u []byte) int {
	for i, t := range typeURLs {
		if string(u) == t {
			return i
		}
	}
	return -1
}

// info is what the fleet keeps of one distinct resource.
type info struct {
	name    string
	hash    uint64
	refs    []string // cluster: its EDS resource, if it is an EDS cluster; listener: its RDS route configurations
	markers []int    // change markers found in the bytes (see scanMarkers)
}

type infoKey struct {
	h uint64
	n int
}

var (
	hashSeed  = maphash.MakeSeed()
	infoCache sync.Map // infoKey -> *info
)

// fields walks the length-delimited and varint fields of a message.
func fields(b []byte, f func(num protowire.Number, typ protowire.Type, v []byte, n uint64) bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return
			}
			if !f(num, typ, v, 0) {
				return
			}
			b = b[n:]
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return
			}
			if !f(num, typ, nil, v) {
				return
			}
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return
			}
			b = b[n:]
		}
	}
}

func sub(b []byte, want protowire.Number) (out []byte) {
	fields(b, func(num protowire.Number, _ protowire.Type, v []byte, _ uint64) bool {
		if num == want {
			out = v
			return false
		}
		return true
	})
	return
}

// resourceInfo returns the cached facts of one resource (the value of its Any).
func resourceInfo(t int, b []byte) *info {
	k := infoKey{maphash.Bytes(hashSeed, b), len(b)<<3 | t}
	if v, ok := infoCache.Load(k); ok {
		return v.(*info)
	}
	in := &info{hash: k.h}
	switch t {
	case cds:
		isEDS := false
		svc := ""
		fields(b, func(num protowire.Number, _ protowire.Type, v []byte, n uint64) bool {
			switch num {
			case 1:
				in.name = string(v)
			case 2:
				isEDS = n == 3
			case 3:
				svc = string(sub(v, 2))
			}
			return true
		})
		if isEDS {
			if svc == "" {
				svc = in.name
			}
			in.refs = []string{svc}
		}
	case lds:
		chain := func(fc []byte) {
			fields(fc, func(num protowire.Number, _ protowire.Type, filter []byte, _ uint64) bool {
				if num == 3 { // Filter
					if a := sub(filter, 4); a != nil && bytes.HasSuffix(sub(a, 1), []byte("HttpConnectionManager")) {
						if r := sub(sub(a, 2), 3); r != nil {
							in.refs = append(in.refs, string(sub(r, 2)))
						}
					}
				}
				return true
			})
		}
		fields(b, func(num protowire.Number, _ protowire.Type, v []byte, _ uint64) bool {
			switch num {
			case 1:
				in.name = string(v)
			case 3, 25:
				chain(v)
			}
			return true
		})
	default: // CLA and RouteConfiguration: name is field 1
		in.name = string(sub(b, 1))
	}
	in.markers = scanMarkers(b)
	infoCache.Store(k, in)
	return in
}

// scanMarkers finds the markers with which a driver labels its changes, so that the fleet can
// tell from the bytes which change a client has got: an address 10.77.A.B means change
// number A*256+B; the text mk-<digits> means change number <digits>.
func scanMarkers(b []byte) (out []int) {
	for r := b; ; {
		i := bytes.Index(r, []byte("10.77."))
		if i < 0 {
			break
		}
		r = r[i+6:]
		a, n := digits(r)
		if n > 0 && n < len(r) && r[n] == '.' {
			if c, m := digits(r[n+1:]); m > 0 {
				out = append(out, a*256+c)
			}
		}
	}
	for r := b; ; {
		i := bytes.Index(r, []byte("mk-"))
		if i < 0 {
			break
		}
		r = r[i+3:]
		if a, n := digits(r); n > 0 {
			out = append(out, a)
		}
	}
	return
}

func digits(b []byte) (v, n int) {
	for n < len(b) && b[n] >= '0' && b[n] <= '9' && n < 9 {
		n++
	}
	v, _ = strconv.Atoi(string(b[:n]))
	return
}

// response is one walked DiscoveryResponse or DeltaDiscoveryResponse.
type response struct {
	t       int
	typeURL string
	version string
	nonce   string
	infos   []*info
	removed []string
}

func parseResponse(b []byte, delta bool, r *response) {
	r.t, r.version, r.nonce, r.typeURL = -1, "", "", ""
	r.infos, r.removed = r.infos[:0], r.removed[:0]
	// The type is needed before the resources and may come after them on the wire.
	fields(b, func(num protowire.Number, _ protowire.Type, v []byte, _ uint64) bool {
		switch num {
		case 1:
			r.version = string(v)
		case 4:
			r.t = typeIndex(v)
			r.typeURL = string(v)
		case 5:
			r.nonce = string(v)
		case 6:
			if delta {
				r.removed = append(r.removed, string(v))
			}
		}
		return true
	})
	if r.t < 0 {
		return
	}
	fields(b, func(num protowire.Number, _ protowire.Type, v []byte, _ uint64) bool {
		if num == 2 {
			a := v
			if delta {
				a = sub(v, 2)
			}
			r.infos = append(r.infos, resourceInfo(r.t, sub(a, 2)))
		}
		return true
	})
}

func str(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

func msg(b []byte, num protowire.Number, m []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, m)
}

// sotwRequest encodes a DiscoveryRequest. names is the already encoded resource_names fields.
func sotwRequest(node []byte, t string, version, nonce string, names []byte) []byte {
	var b []byte
	b = str(b, 1, version)
	if node != nil {
		b = msg(b, 2, node)
	}
	b = append(b, names...)
	b = str(b, 4, t)
	return str(b, 5, nonce)
}

// deltaRequest encodes a DeltaDiscoveryRequest.
func deltaRequest(node []byte, t string, nonce string, subscribe, unsubscribe []string) []byte {
	var b []byte
	if node != nil {
		b = msg(b, 1, node)
	}
	b = str(b, 2, t)
	for _, s := range subscribe {
		b = str(b, 3, s)
	}
	for _, s := range unsubscribe {
		b = str(b, 4, s)
	}
	return str(b, 6, nonce)
}

func encodeNames(names []string) []byte {
	var b []byte
	for _, s := range names {
		b = str(b, 3, s)
	}
	return b
}
