-- What an area is used for, as far as alarms are judged by it: 'charging' where e-bikes are charged.
ALTER TABLE area ADD COLUMN use text NOT NULL DEFAULT '' CHECK (use IN ('', 'charging'));

-- Where a member stood, and whether it speaks for itself: two that do, near each other, are more
-- than either.
ALTER TABLE incident_device ADD COLUMN floor smallint; -- null: of no floor that is known
ALTER TABLE incident_device ADD COLUMN alone boolean NOT NULL DEFAULT true;

-- What is looked for beside a fire: water that flows, a device that fell silent or says a fault.
CREATE INDEX signal_of_water ON signal (site, event_us) WHERE kind = 'water' AND phase <> 'clear';
CREATE INDEX signal_of_loss ON signal (device, onset_us)
    WHERE kind IN ('offline', 'fault') AND phase = 'raise';
CREATE INDEX signal_beside ON signal (stored_us) WHERE kind IN ('water', 'offline', 'fault');

-- Who is offline, by carrier: a gateway that goes is one matter and not its 200 devices. A row stays
-- when it is over, so there are at most as many as devices and carriers.
CREATE TABLE silence (
    subject text NOT NULL, -- 'device:17', or 'carrier:gw-3' for what stands for its devices
    nature text NOT NULL CHECK (nature IN ('real', 'drill', 'test', 'canary')),
    carrier text NOT NULL,
    device integer NOT NULL CHECK (device >= 0), -- 0 for a carrier
    onset text NOT NULL,
    onset_us bigint NOT NULL, -- event time: when it fell silent
    ended_us bigint,
    PRIMARY KEY (subject, nature)
);
CREATE INDEX silence_of_carrier ON silence (carrier) WHERE ended_us IS NULL;
