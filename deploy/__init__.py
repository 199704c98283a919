"""What runs Sizao: privately on one machine (`deploy.local`), or in a district."""
