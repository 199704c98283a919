-- People of a site or a unit, told of what happens there. Written by `sizao contacts import`. Who
-- they are and their number are sealed by us (docs/adr/0007): this table is no telephone book.
CREATE TABLE contact (
    site text NOT NULL CHECK (length(site) BETWEEN 1 AND 64), -- code of the area
    unit text NOT NULL DEFAULT '' CHECK (length(unit) <= 64), -- code of an area in it; '' = all of it
    role text NOT NULL CHECK (role IN
        ('occupant', 'building_head', 'control_room', 'responsible', 'manager', 'property',
         'maintainer')),
    tag bytea NOT NULL CHECK (octet_length(tag) = 16), -- keyed digest of the number
    sealed bytea NOT NULL CHECK (octet_length(sealed) BETWEEN 28 AND 1024), -- name and number
    key_id text NOT NULL CHECK (length(key_id) = 8),
    language text NOT NULL CHECK (language IN ('zh', 'en')),
    verified date, -- when somebody answered on that number; null: never
    PRIMARY KEY (site, unit, role, tag)
);
