-- The detectors of the programs that run here: `sizao migrate` writes them anew each time. For
-- whoever changes a device type, to see which of them will judge its devices.
CREATE TABLE detector (
    name text PRIMARY KEY,
    version integer NOT NULL CHECK (version > 0),
    lane text NOT NULL CHECK (lane IN ('alarm', 'telemetry')),
    quantities smallint[] NOT NULL, -- codes of sizao/units.py that it reads
    purpose text NOT NULL
);
