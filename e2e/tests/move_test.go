package tests

// moves: a pod that is deleted on one node and made on another finds its data.
func moves(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	for _, fs := range []string{ext4, xfs, btrfs} {
		claim := s.claim(fs, fs)
		blob := s.fill(s.running(fs+"-here", withClaim(claim), onNode(here)), dataDir+"/blob", 32)
		s.deletePod(fs + "-here")
		s.same(s.running(fs+"-there", withClaim(claim), onNode(there)), dataDir+"/blob", 32, blob)
		s.attachedTo(claim, there)
	}
}

// attachedTo holds the cloud's volume of a claim to being attached to these
// nodes and no others.
func (s *scenario) attachedTo(claim string, nodes ...string) {
	s.Helper()
	want := map[string]string{}
	for _, n := range s.cluster.Nodes {
		for _, name := range nodes {
			if n.Name == name {
				want[n.ServerID] = name
			}
		}
	}
	v := s.cloudVolume(claim)
	for _, a := range v.Attachments {
		if _, ok := want[a.ServerID]; !ok {
			s.Errorf("volume %s of claim %s is attached to server %s, it should be to %v", v.ID, claim, a.ServerID, nodes)
		}
		delete(want, a.ServerID)
	}
	for id, name := range want {
		s.Errorf("volume %s of claim %s is not attached to server %s, which is %s", v.ID, claim, id, name)
	}
}
