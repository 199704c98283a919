"""The operator's page and API: open incidents, and what a person does with them."""
