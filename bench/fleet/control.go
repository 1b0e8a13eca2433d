package main

// What the fleet tells over HTTP, for the driver that makes the changes.
//
//	GET  /stats                                    completion times, bytes, responses, distinct resources
//	GET  /marker?type=eds&m=5&t0=<unix ns>[&mod=50]  latency of one marked change over the clients
//	POST /markers?type=eds&mod=50 [{"m":1,"t0":ns}]  latencies of many changes, pooled
//
// A change is recognized by a marker in its bytes (see scanMarkers). With mod a later marker of the same residue class
// counts too: it is a later change of the same object, and merged pushes leave the earlier out.

import (
	"encoding/json"
	"hash/maphash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
)

type dist struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func distOf(ns []int64) dist {
	if len(ns) == 0 {
		return dist{}
	}
	slices.Sort(ns)
	q := func(p float64) float64 { return float64(ns[min(len(ns)-1, int(p*float64(len(ns))))]) / 1e6 }
	return dist{len(ns), q(.5), q(.9), q(.99), float64(ns[len(ns)-1]) / 1e6}
}

// shared is a set of subscriptions that equal clients hold together.
type shared struct {
	wants []string
	needs map[string][]string
}

var sharedSets sync.Map // hash of names -> shared

// share gives the one copy of equal subscriptions. Equal means here: the same names are wanted by as many resources;
// what refers to them may differ by a client's own listeners and clusters, which refer to nothing.
func share(wants []string, needs map[string][]string) shared {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, name := range wants {
		h.WriteString(name)
		h.WriteByte(0)
	}
	sum := uint64(0)
	for name, refs := range needs {
		sum += maphash.String(hashSeed, name) ^ uint64(len(refs))
	}
	found, _ := sharedSets.LoadOrStore([2]uint64{h.Sum64(), sum}, shared{wants, needs})
	return found.(shared)
}

func stats() map[string]any {
	var fromStart, own []int64
	errs := map[string]int{}
	reconnects := int64(0)
	sent := map[string]map[string]int64{"bytes": {}, "responses": {}}
	for _, c := range clients {
		reconnects += c.reconnects.Load()
		if f := c.first; f != 0 {
			fromStart = append(fromStart, f-t0)
			own = append(own, f-c.start)
		}
		if e := c.err.Load(); e != nil {
			errs[*e]++
		}
		for i, name := range typeNames {
			sent["bytes"][name] += c.bytes[i].Load()
			sent["responses"][name] += c.responses[i].Load()
		}
	}
	return map[string]any{
		"clients": len(clients), "complete": nComplete.Load(), "errors": errs, "reconnects": reconnects,
		"first_config_since_fleet_start": distOf(fromStart), "first_config_since_connect": distOf(own),
		"bytes": sent["bytes"], "responses": sent["responses"], "other_type_responses": otherTypes.Load(),
		"distinct_resources": distinct(), "distinct_first_responses": distinctFirst(),
	}
}

// distinct counts the byte-distinct resources seen, by type.
func distinct() map[string]int {
	n := map[string]int{}
	infoCache.Range(func(k, _ any) bool { n[typeNames[k.(infoKey).n&7]]++; return true })
	return n
}

// firstBodies collects, by type, a hash of the set of resources in each client's first response: how many different
// configurations the fleet really got.
var firstBodies [nTypes]sync.Map

func distinctFirst() map[string]int {
	n := map[string]int{}
	for i := range firstBodies {
		firstBodies[i].Range(func(any, any) bool { n[typeNames[i]]++; return true })
	}
	return n
}

type event struct {
	M  int   `json:"m"`
	T0 int64 `json:"t0"`
}

// latencies gives, for each client, the first time at or after the event at which it saw its marker.
func latencies(t, mod int, e event) (lat []int64) {
	for _, c := range clients {
		c.mu.Lock()
		best := int64(0)
		for _, s := range c.sightings {
			v := s.marker >> 3
			known := v == e.M || (mod > 0 && v > e.M && (v-e.M)%mod == 0)
			if s.marker&7 == t && s.at >= e.T0 && known && (best == 0 || s.at < best) {
				best = s.at
			}
		}
		c.mu.Unlock()
		if best != 0 {
			lat = append(lat, best-e.T0)
		}
	}
	return
}

// asked reads the type and the residue class of a query.
func asked(q url.Values) (t, mod int) {
	mod, _ = strconv.Atoi(q.Get("mod"))
	return max(0, slices.Index(typeNames[:], q.Get("type"))), mod
}

func serve() {
	js := func(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }
	http.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) { js(w, stats()) })
	http.HandleFunc("/marker", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		t, mod := asked(q)
		m, _ := strconv.Atoi(q.Get("m"))
		at, _ := strconv.ParseInt(q.Get("t0"), 10, 64)
		js(w, distOf(latencies(t, mod, event{m, at})))
	})
	http.HandleFunc("/markers", func(w http.ResponseWriter, r *http.Request) {
		var events []event
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		t, mod := asked(r.URL.Query())
		var all []int64
		for _, e := range events {
			all = append(all, latencies(t, mod, e)...)
		}
		js(w, distOf(all))
	})
	check(http.ListenAndServe(*control, nil))
}
