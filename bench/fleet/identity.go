package main

// Who the clients are: one certificate per namespace and service account, as the control plane checks that the node's
// claims and the certificate agree.

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// identities are the credentials made so far, by namespace and service account.
type identities map[string]credentials.TransportCredentials

// of gives the credentials of a client; clients of one identity share them.
func (made identities) of(s nodeSpec) (credentials.TransportCredentials, error) {
	name := s.NS + "/" + s.SA
	if found, ok := made[name]; ok {
		return found, nil
	}
	found, err := load(s)
	made[name] = found
	return found, err
}

func load(s nodeSpec) (credentials.TransportCredentials, error) {
	if *root == "" {
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(*root)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: *host, NextProtos: []string{"h2"}}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", *root)
	}
	if *certFile != "" {
		place := strings.NewReplacer("{ns}", s.NS, "{sa}", s.SA)
		pair, err := tls.LoadX509KeyPair(place.Replace(*certFile), place.Replace(*keyFile))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
