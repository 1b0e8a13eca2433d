// Command fleet is a light fake fleet of Envoy sidecars for measuring an xDS control plane.
//
// One connection and one ADS stream per client, as a sidecar has. A client identifies itself as an Istio agent does,
// subscribes as Envoy does (CDS wildcard, EDS for its EDS clusters, LDS wildcard once every EDS resource came, RDS for
// the route names of the listeners), ACKs everything, and notes when its first configuration was complete and when it
// saw a marked change. What it tells over HTTP is in control.go.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

var (
	addr     = flag.String("addr", "127.0.0.1:15010", "ADS server")
	n        = flag.Int("n", 100, "number of clients")
	mode     = flag.String("mode", "delta", "sotw or delta")
	rate     = flag.Float64("rate", 0, "connections per second (0: all at once)")
	control  = flag.String("control", "127.0.0.1:23900", "control HTTP address")
	nodeFile = flag.String("nodes", "", "JSON lines file with one {ip,pod,ns,labels,sa} per client; else generated")
	version  = flag.String("istio-version", "1.32.0", "ISTIO_VERSION metadata")
	root     = flag.String("root", "", "PEM file of the server's roots; empty: plaintext")
	certFile = flag.String("cert", "", "client certificates, PEM; {ns} and {sa} stand for the client's")
	keyFile  = flag.String("key", "", "their keys, PEM; {ns} and {sa} as in -cert")
	host     = flag.String("server-name", "istiod.istio-system.svc", "the name that the server's certificate must hold")
)

// nodeSpec is what the driver says of one client.
type nodeSpec struct {
	IP     string            `json:"ip"`
	Pod    string            `json:"pod"`
	NS     string            `json:"ns"`
	Labels map[string]string `json:"labels"`
	SA     string            `json:"sa"`
}

// encode gives the Node message of an Istio agent's proxy.
func (s nodeSpec) encode() []byte {
	labels := map[string]any{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	md, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": s.NS, "LABELS": labels, "ISTIO_VERSION": *version, "CLUSTER_ID": "Kubernetes",
		"MESH_ID": "cluster.local", "NAME": s.Pod, "INSTANCE_IPS": s.IP, "SERVICE_ACCOUNT": s.SA,
		"INTERCEPTION_MODE": "REDIRECT", "NODE_NAME": "node-1", "WORKLOAD_NAME": s.Labels["app"],
		"ENVOY_STATUS_PORT": 15021, "ENVOY_PROMETHEUS_PORT": 15090, "PILOT_SAN": []any{"istiod.istio-system.svc"},
		"OWNER":          "kubernetes://apis/apps/v1/namespaces/" + s.NS + "/deployments/" + s.Labels["app"],
		"APP_CONTAINERS": "app", "ANNOTATIONS": map[string]any{}, "POD_PORTS": "[]",
		"PROXY_CONFIG": map[string]any{"concurrency": 2, "discoveryAddress": "istiod.istio-system.svc:15012"},
	})
	if err != nil {
		panic(err)
	}
	mb, _ := proto.Marshal(md)
	var b []byte
	b = str(b, 1, fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", s.IP, s.Pod, s.NS, s.NS))
	b = str(b, 2, s.Labels["app"]+"."+s.NS)
	b = msg(b, 3, mb)
	return str(b, 6, "envoy")
}

// specs reads the node file and fills up with generated nodes.
func specs() []nodeSpec {
	var found []nodeSpec
	if *nodeFile != "" {
		b, err := os.ReadFile(*nodeFile)
		check(err)
		for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			var s nodeSpec
			check(json.Unmarshal([]byte(l), &s))
			found = append(found, s)
		}
	}
	for i := len(found); i < *n; i++ {
		found = append(found, nodeSpec{IP: fmt.Sprintf("10.%d.%d.%d", 100+i/65536, i/256%256, i%256),
			Pod: fmt.Sprintf("pod-%d", i), NS: "default", SA: "default",
			Labels: map[string]string{"app": fmt.Sprintf("app-%d", i)}})
	}
	return found[:*n]
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func main() {
	flag.Parse()
	encoding.RegisterCodecV2(rawCodec{})
	made := identities{}
	for _, s := range specs() {
		creds, err := made.of(s)
		check(err)
		clients = append(clients, newClient(s.encode(), creds))
	}
	go serve()
	t0 = time.Now().UnixNano()
	for i, c := range clients {
		if *rate > 0 {
			time.Sleep(time.Until(time.Unix(0, t0).Add(time.Duration(float64(i) / *rate * 1e9))))
		}
		go c.loop(context.Background())
	}
	select {}
}
