package main

import (
	"net"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// LDAP operations and results used here (RFC 4511).
const (
	ldapBindRequest   = 0
	ldapBindResponse  = 1
	ldapUnbindRequest = 2
	ldapSearchRequest = 3
	ldapSearchDone    = 5

	ldapSuccess            = 0
	ldapInvalidCredentials = 49
	ldapUnwillingToPerform = 53
)

// serveLDAP answers simple binds of the three service accounts, and any search
// with nothing.
func (s *server) serveLDAP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.serveLDAPConn(conn)
	}
}

func (s *server) serveLDAPConn(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		p, err := ber.ReadPacket(conn)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, ok := p.Children[0].Value.(int64)
		if !ok {
			return
		}
		op, response, result := p.Children[1], ber.Tag(ldapSearchDone), int64(ldapUnwillingToPerform)
		switch op.Tag {
		case ldapBindRequest:
			response, result = ldapBindResponse, s.bind(op)
		case ldapUnbindRequest:
			return
		case ldapSearchRequest:
			result = ldapSuccess
		}
		m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
		m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
		r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, response, nil, "")
		r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, result, ""))
		r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
		r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
		m.AppendChild(r)
		if _, err := conn.Write(m.Bytes()); err != nil {
			return
		}
	}
}

// bind judges a simple bind as uid=NAME,ou=sysusers,o=libregraph-idm.
func (s *server) bind(op *ber.Packet) int64 {
	if len(op.Children) < 3 {
		return ldapUnwillingToPerform
	}
	dn, _ := op.Children[1].Value.(string)
	password := op.Children[2].Data.String()
	name, rest, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(dn, " ", "")), "uid="), ",")
	if _, on := quirk(s.l, "never-ready"); on || rest != "ou=sysusers,o=libregraph-idm" || password == "" || !s.knows(name, password) {
		return ldapInvalidCredentials
	}
	return ldapSuccess
}
