"""The certificate authority: a CSR and a proven identity in, a certificate chain out."""
