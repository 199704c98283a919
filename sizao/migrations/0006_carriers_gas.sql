-- What a combustible-gas detector is labelled for: 10,000 ppm are 20 %LEL of methane, 48 of propane.
ALTER TABLE device ADD COLUMN gas smallint NOT NULL DEFAULT 0 CHECK (gas >= 0); -- of sizao/units.py
-- A carrier whose password is not to be trusted any more: the bridge refuses what it says.
ALTER TABLE carrier ADD COLUMN revoked boolean NOT NULL DEFAULT false;
